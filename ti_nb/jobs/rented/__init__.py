"""Jobs on rented machines of the Hugging Face Hub: asked, paid for and fetched back."""
