"""Short-lived children of the agent: how they are asked, and how they are held. Loads nothing."""
