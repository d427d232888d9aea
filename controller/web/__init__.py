"""The web page: files for a browser, without a build step and without anything of somebody else's."""
