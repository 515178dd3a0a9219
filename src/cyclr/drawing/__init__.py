"""Pictures of schedules, range tests and training runs: numbers in, pictures out."""
