"""The HTTP side of the site: pages, API, live socket, security."""
