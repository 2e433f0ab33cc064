"""The broker devices connect to: Mosquitto as a child, an embedded one, or any by URL."""
