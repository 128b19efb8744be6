"""Pictures drawn from prompts, from noise and from other pictures; how they were drawn, in their files."""
