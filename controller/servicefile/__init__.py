"""The service file: what it says (`parse`), what that changes (`plan`), and how it is written (`render`). Pure."""
