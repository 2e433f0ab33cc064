"""The broker devices connect to: Mosquitto as a supervised child, an embedded one for one machine, or any by URL."""
