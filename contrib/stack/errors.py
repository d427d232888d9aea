"""Why a stack image could not be made."""


class StackError(Exception):
    """The message is a sentence for whoever runs the build."""
