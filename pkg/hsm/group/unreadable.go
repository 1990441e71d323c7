package group

// Objects that an HSM lists and does not let be read. The rest of the HSM serves; the object is
// named in the log and in the status; and a key that may be the object is never said to be missing
// or complete (X7): for its label the HSM counts as not seen.

import (
	"slices"

	"go.uber.org/zap"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/status"
)

// loggedUnreadable is how many such objects of one listing a log line names.
const loggedUnreadable = 10

// hide takes note of the objects of a listing that could not be read, and keeps what was last seen
// under their labels. It reports whether they are others than before. Group.mu is held.
func (g *Group) recordUnreadable(
	m *member,
	objects map[string][]hsm.Object,
	unreadable []hsm.Object,
) bool {
	for _, o := range unreadable {
		before := m.objects[o.Label]
		if o.Label != "" && len(objects[o.Label]) < len(before) {
			objects[o.Label] = before
		}
	}
	if hsm.SameObjects(m.unreadable, hsm.SortObjects(unreadable)) {
		return false
	}
	g.logUnreadable(m, unreadable)
	m.unreadable = unreadable
	return true
}

func (g *Group) logUnreadable(m *member, unreadable []hsm.Object) {
	if len(unreadable) == 0 {
		g.log.Info("all objects of the HSM can be read again", zap.String("hsm", m.Name))
		return
	}
	var named []string
	for _, o := range unreadable[:min(len(unreadable), loggedUnreadable)] {
		named = append(named, o.DescribeUnreadable())
	}
	g.log.Error(
		"objects on the HSM cannot be read and are left out; the others serve: delete them "+
			"or repair them with the HSM's own tools",
		zap.String("hsm", m.Name),
		zap.Int("objects", len(unreadable)),
		zap.Strings("which", named),
	)
}

// hides reports whether an object that could not be read has this label. Group.mu is held.
func (m *member) hasUnreadable(label string) bool {
	return slices.ContainsFunc(m.unreadable, func(o hsm.Object) bool { return o.Label == label })
}

// hidden is for the status. Group.mu is held.
func (m *member) unreadableObjects() []status.UnreadableObject {
	var list []status.UnreadableObject
	for _, o := range m.unreadable {
		list = append(list, status.UnreadableObject{
			Handle: o.Unreadable.Handle, Class: hsm.ClassNames[o.Class], Label: o.Label,
			Code: o.Unreadable.Code.String(),
		})
	}
	return list
}
