"""What the server does by itself, now and then: makes room, and ends what would stay in progress for ever."""
