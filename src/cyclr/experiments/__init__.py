"""Complete runs on real data: data sets, models, and the comparison that `cyclr demo` shows."""
