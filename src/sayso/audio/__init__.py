"""From files and microphones to log-mel features."""
