package catalogue

// Sets of HSMs, by position in the group.

import (
	"math/bits"
)

// Set is a set of members; bit i is the member at position i of the group.
type Set uint16

// Size returns the number of members.
func (s Set) Size() int { return bits.OnesCount16(uint16(s)) }

// First returns the lowest position in a set that is not empty.
func (s Set) First() int { return bits.TrailingZeros16(uint16(s)) }
