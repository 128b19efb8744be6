"""The machine and the notebook around us. Knows nothing of pictures, models or words."""
