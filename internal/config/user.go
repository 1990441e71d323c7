package config

// hsms[].user: the user that the process of an HSM runs as.

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"xks-proxy/internal/access"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/peer"
)

const userWait = 2 * time.Second // for the name service

// findUser is a user by name or number, with its primary and supplementary groups.
func findUser(ctx context.Context, name string) (*syscall.Credential, error) {
	ctx, cancel := context.WithTimeout(ctx, userWait)
	defer cancel()
	found, err := peer.LookUp(ctx, func() (access.User, error) { return access.Lookup(name) })
	switch {
	case errors.Is(err, peer.ErrNoName):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: create it or choose another", err)
	}
	return found.Credential(), nil
}

// ProcessUser is the user that the process of an HSM is started as by a process of the user euid;
// nil: that same user.
func (h HSM) ProcessUser(euid int) (*syscall.Credential, error) {
	if h.User == "" {
		return nil, nil
	}
	found, err := findUser(context.Background(), h.User)
	switch {
	case err != nil:
		return nil, fmt.Errorf("HSM %s: user: %w", h.Name, err)
	case int(found.Uid) == euid:
		return nil, nil
	case euid != 0:
		return nil, fmt.Errorf(
			"HSM %s: user: only root can start its process as %s: "+
				"start the proxy as root, or remove user",
			h.Name, h.User)
	}
	return found, nil
}

// ValidateUser reports a user that does not exist. A name service that does not answer says nothing
// about the user; the start finds out.
func ValidateUser(r *schema.Report, at, name string) {
	if name == "" {
		return
	}
	_, err := findUser(context.Background(), name)
	switch {
	case errors.Is(err, peer.ErrNoName):
		r.Warnf(at, "%v, so it is not known whether %q exists", err, name)
	case err != nil:
		r.Errorf(at, "%v", err)
	}
}
