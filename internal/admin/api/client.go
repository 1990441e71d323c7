package api

// The client of the admin socket. Its errors say what to do.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"xks-proxy/internal/peer"
)

const (
	Patience       = 5 * time.Second // beyond what an order may take
	adminMaxAnswer = 64 << 20        // bytes; findings of very many keys
)

// Client asks the proxy behind one socket.
type Client struct {
	socket string
	HTTP   *http.Client
}

// NewClient makes a client for the socket at a path. It does not connect.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &Client{
		socket: socket,
		HTTP: &http.Client{
			Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true},
		},
	}
}

// Get reads an answer, and returns the JSON of it.
func (c *Client) Get(ctx context.Context, path string, answer any) ([]byte, error) {
	text, err := c.do(ctx, http.MethodGet, path, Patience)
	if err != nil {
		return nil, err
	}
	return text, c.read(text, answer)
}

func (c *Client) read(text []byte, answer any) error {
	err := json.Unmarshal(text, answer)
	if err != nil {
		return fmt.Errorf(
			"what answers at %s is not xks-proxy, or is another version: %w",
			c.socket,
			err,
		)
	}
	return nil
}

// Order has something done to an HSM.
func (c *Client) Order(
	ctx context.Context,
	path, name string,
	force bool,
	wait time.Duration,
) (string, []byte, error) {
	query := url.Values{"force": {strconv.FormatBool(force)}, "timeout": {wait.String()}}
	path = strings.Replace(path, "{name}", url.PathEscape(name), 1)
	return c.Change(ctx, http.MethodPost, path, query, wait+Patience)
}

// Change has something changed and returns what was done, in words, and the JSON of it.
func (c *Client) Change(
	ctx context.Context,
	method, path string,
	query url.Values,
	limit time.Duration,
) (string, []byte, error) {
	text, err := c.do(ctx, method, path+"?"+query.Encode(), limit)
	if err != nil {
		return "", nil, err
	}
	var answer Answer
	err = c.read(text, &answer)
	return answer.Message, text, err
}

// do returns the body of a good answer.
func (c *Client) do(ctx context.Context, method, path string, limit time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://admin"+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := c.HTTP.Do(r)
	if err != nil {
		return nil, c.Explain(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, adminMaxAnswer))
	if err != nil {
		return nil, c.Explain(err)
	}
	if response.StatusCode == http.StatusOK {
		return text, nil
	}
	var answer Answer
	err = json.Unmarshal(text, &answer)
	if err != nil || answer.Error == "" {
		return nil, fmt.Errorf(
			"what answers at %s is not xks-proxy, or is another version: HTTP status %d",
			c.socket,
			response.StatusCode,
		)
	}
	return nil, errors.New(answer.Error)
}

// Explain turns the error of a request without an answer into one that says what to do.
func (c *Client) Explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf(
			"xks-proxy is not running, or its socket was deleted: cannot find %s. Start it, or "+
				"name the configuration that it runs with (--config) or its socket (--socket)",
			c.socket,
		)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf(
			"the xks-proxy that made %s is gone (connection refused); start it again",
			c.socket,
		)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf(
			"no permission for %s: %s; run this command as that user, or set admin.group to a "+
				"group of yours",
			c.socket,
			WhoMay(c.socket),
		)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf(
			"the xks-proxy at %s does not answer; it may still be starting: try again in a "+
				"moment, and see its log",
			c.socket,
		)
	case errors.Is(err, context.Canceled):
		return errors.New(
			"interrupted before the proxy answered: it may have carried out the order, see " +
				"xks-proxy status",
		)
	}
	return fmt.Errorf("the xks-proxy at %s gave no answer: %w", c.socket, err)
}

// WhoMay names the owner, the group and the mode of a socket, or of the directory that hides it.
func WhoMay(path string) string {
	info, err := os.Stat(path)
	what := "it"
	for err != nil && path != filepath.Dir(path) {
		path = filepath.Dir(path)
		what = "its directory " + path
		info, err = os.Stat(path)
	}
	if err != nil {
		return "nothing is known of it"
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Sprintf("%s has mode %04o", what, info.Mode().Perm())
	}
	return fmt.Sprintf(
		"%s belongs to %s:%s, mode %04o",
		what,
		UserName(owner.Uid),
		GroupName(owner.Gid),
		info.Mode().Perm(),
	)
}

// UserName is the name of a user, or the number if there is no quick answer.
func UserName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	u, err := peer.LookUpBriefly(func() (*user.User, error) { return user.LookupId(id) })
	if err != nil {
		return id
	}
	return u.Username
}

// GroupName is the name of a group, or the number if there is no quick answer.
func GroupName(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	g, err := peer.LookUpBriefly(func() (*user.Group, error) { return user.LookupGroupId(id) })
	if err != nil {
		return id
	}
	return g.Name
}
