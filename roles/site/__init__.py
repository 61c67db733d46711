"""What a user may say about a site, and why some of it is refused."""
