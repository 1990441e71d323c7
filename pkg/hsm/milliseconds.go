package hsm

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// Milliseconds is a duration whose JSON is a number of milliseconds, such as 2.14. The names of
// such JSON fields end with Ms.
type Milliseconds time.Duration

// String formats the duration as time.Duration does.
func (m Milliseconds) String() string { return time.Duration(m).String() }

// MarshalJSON writes milliseconds with a precision of one microsecond.
func (m Milliseconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(float64(time.Duration(m).Microseconds()) / 1000)
}

// UnmarshalJSON is the inverse of MarshalJSON.
func (m *Milliseconds) UnmarshalJSON(text []byte) error {
	var n float64
	err := json.Unmarshal(text, &n)
	if err != nil {
		return fmt.Errorf("milliseconds: %w", err)
	}
	*m = Milliseconds(time.Duration(math.Round(n*1000)) * time.Microsecond)
	return nil
}
