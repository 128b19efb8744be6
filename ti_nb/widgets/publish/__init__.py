"""The panel that shows what would go to the Hub, and sends it."""
