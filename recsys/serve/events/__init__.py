"""Events that the server is sent: checked, made durable, and moved on to the landing zone."""
