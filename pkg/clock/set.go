package clock

import "time"

// Earliest is the start of 2024 in Unix seconds. A wall clock that shows an earlier time
// has not been set since the board was powered on.
const Earliest = 1_704_067_200

// IsSet reports whether a wall clock that shows t has been set.
func IsSet(t time.Time) bool { return t.Unix() >= Earliest }
