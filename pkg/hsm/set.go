package hsm

// Sets of HSMs, by their place in the group.

import "math/bits"

// memberSet is a set of members, by their place in the group.
type memberSet uint16

// size is how many HSMs are in the set.
func (s memberSet) size() int { return bits.OnesCount16(uint16(s)) }

// first is the lowest place in a set that is not empty.
func (s memberSet) first() int { return bits.TrailingZeros16(uint16(s)) }
