package catalogue

// Sets of HSMs, by their place in the group.

import (
	"math/bits"
)

// Set is a set of members, by their place in the group.
type Set uint16

// Size is how many HSMs are in the set.
func (s Set) Size() int { return bits.OnesCount16(uint16(s)) }

// First is the lowest place in a set that is not empty.
func (s Set) First() int { return bits.TrailingZeros16(uint16(s)) }
