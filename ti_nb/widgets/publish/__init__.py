"""The panel that shows what would be published on the Hub, and publishes it."""
