"""What can be trained, and what is refused: of a loaded pipeline, and of the small files of a folder."""
