"""Neural parts: encoders, masks, predictors, joiners, heads, and their assembly. One small component, one file, one
table line."""
