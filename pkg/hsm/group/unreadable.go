package group

// Objects that an HSM lists but does not let the proxy read. The other keys of the HSM serve. The
// log and the status name the object, and a key that it may belong to is never reported as missing
// or complete (X7).

import (
	"slices"

	"go.uber.org/zap"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/status"
)

// loggedUnreadable is how many such objects a log line names.
const loggedUnreadable = 10

// recordUnreadable records the unreadable objects of a listing and keeps what was last seen under
// their labels. It reports whether they have changed. Requires Group.mu.
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

// hasUnreadable reports whether an unreadable object has this label. Requires Group.mu.
func (m *member) hasUnreadable(label string) bool {
	return slices.ContainsFunc(m.unreadable, func(o hsm.Object) bool { return o.Label == label })
}

// unreadableObjects returns the objects for the status. Requires Group.mu.
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
