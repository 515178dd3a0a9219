"""Pictures of schedules, range tests and training runs, drawn from plain numbers."""
