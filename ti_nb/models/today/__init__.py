"""Models of today: driven through their own pipelines, whose calls say how a prompt is encoded."""
