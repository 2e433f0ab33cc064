"""Who is told of alerts, and how: webhooks, mail, the centre's broker, Alertmanager."""
