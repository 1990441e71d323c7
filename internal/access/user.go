package access

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// User is a user of the system, with the numbers by which the kernel decides.
type User struct {
	Name   string
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary
}

// Lookup finds a user by name, or by number if no user has that name. For a number that no user
// has, it returns a user without supplementary groups, as in a container.
func Lookup(name string) (User, error) {
	found, err := user.Lookup(name)
	if err != nil {
		number, notNumber := strconv.ParseUint(name, 10, 32)
		if notNumber != nil {
			return User{}, fmt.Errorf("the user %s does not exist", name)
		}
		found, err = user.LookupId(name)
		if err != nil {
			return User{Name: name, UID: uint32(number), GID: uint32(number)}, nil
		}
	}
	return fromSystem(found)
}

func fromSystem(found *user.User) (User, error) {
	groups, err := found.GroupIds()
	if err != nil {
		return User{}, fmt.Errorf(
			"the groups of the user %s are not known: %w",
			found.Username,
			err,
		)
	}
	ids := make([]uint32, 0, len(groups)+2)
	for _, text := range append([]string{found.Uid, found.Gid}, groups...) {
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return User{}, fmt.Errorf(
				"the user %s has an id that is not a number: %s",
				found.Username,
				text,
			)
		}
		ids = append(ids, uint32(id))
	}
	return User{Name: found.Username, UID: ids[0], GID: ids[1], Groups: ids[2:]}, nil
}

// IsSelf reports whether this process runs as that user.
func (u User) IsSelf() bool { return int(u.UID) == os.Geteuid() }

// Credential returns what makes a new process run as that user.
func (u User) Credential() *syscall.Credential {
	return &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
}

// describe names owner, group and mode.
func describe(info fs.FileInfo) string {
	owner, known := info.Sys().(*syscall.Stat_t)
	if !known {
		return fmt.Sprintf("mode %04o", info.Mode().Perm())
	}
	uid, gid := strconv.Itoa(int(owner.Uid)), strconv.Itoa(int(owner.Gid))
	if found, err := user.LookupId(uid); err == nil {
		uid = found.Username
	}
	if found, err := user.LookupGroupId(gid); err == nil {
		gid = found.Name
	}
	return fmt.Sprintf("owner %s, group %s, mode %04o", uid, gid, info.Mode().Perm())
}
