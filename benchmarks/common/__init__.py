"""What several studies need: networks, images, and the files of results."""
