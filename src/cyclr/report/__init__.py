"""Pictures of schedules, range tests and training runs."""
