"""Where a city is hard: sums over forecasts, cell by cell, what they say, and their pictures."""
