package cli

// What `hsm list` says of objects that an HSM does not let be read.

import (
	"fmt"
	"strconv"

	"xks-proxy/pkg/hsm/status"
)

const maxUnreadableSeen = 5 // of an HSM

func unreadableNotes(objects []status.UnreadableObject) []string {
	var notes []string
	for _, o := range objects[:min(len(objects), maxUnreadableSeen)] {
		class, label := "object", "unknown label"
		if o.Class != "" {
			class = o.Class
		}
		if o.Label != "" {
			label = "label " + strconv.Quote(o.Label)
		}
		notes = append(
			notes,
			fmt.Sprintf("cannot be read and is left out: %s with handle %d, %s (%s)",
				class, o.Handle, label, o.Code),
		)
	}
	if more := len(objects) - maxUnreadableSeen; more > 0 {
		note := fmt.Sprintf("and %d more objects that cannot be read: --json has all", more)
		notes = append(notes, note)
	}
	return notes
}
