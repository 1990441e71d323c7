package check

// Whether the user that the proxy will run as can use every file of a configuration. Root, who
// usually checks, can read them all and would notice nothing.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"xks-proxy/internal/access"
	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/subprocess"
	"xks-proxy/internal/text"
	"xks-proxy/internal/webconfig"
)

const (
	// TryAccessCommand is the subcommand of config that runs as another user and tries its rights.
	TryAccessCommand = "try-access"
	tryAccessTimeout = 30 * time.Second
)

// tryAccessEnvironment is the whole environment of a process of another user. Our own may hold
// secrets, and a user can read the memory of his processes.
var tryAccessEnvironment = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}

// accessNeed is a file that the proxy uses, and the key that names it.
type accessNeed struct {
	access.Need
	key string
}

// accessNeeds lists everything that serve reads or writes.
func (c *Result) accessNeeds() []accessNeed {
	var needs []accessNeed
	add := func(key, path string, right access.Right) {
		if filepath.IsAbs(path) {
			needs = append(needs, accessNeed{access.Need{Path: path, Right: right}, key})
		}
	}
	conf := c.Config
	add("", filepath.Join(conf.Source.Dir, filepath.Base(conf.Source.File)), access.Read)
	if conf.Source.Found {
		add(config.DirectoryKey, conf.Source.Directory, access.List)
	}
	for i, file := range conf.Source.Stores {
		add(
			schema.StoreKey(conf.Source.OwnStores+i, ""),
			filepath.Join(file.Dir, filepath.Base(file.Name)),
			access.Read,
		)
	}
	for _, place := range conf.CertificatePlaces() {
		add(place.Path+".certificate", place.Certificate, access.Read)
		add(place.Path+".key", place.Key, access.Read)
	}
	for _, place := range conf.ListenerPlaces() {
		add(place.Path+".client_certificates.ca", place.ClientCertificates.CA, access.Read)
	}
	for i, h := range conf.HSMs {
		if !c.Options.NoModules {
			add(config.ModuleKey(i), h.Module, access.Read)
		}
	}
	for _, placed := range conf.SecretRefs() {
		add(schema.JoinPath(placed.Path, "file"), placed.Ref.File, access.Read)
		if len(placed.Ref.Command) > 0 {
			add(schema.JoinPath(placed.Path, "command"), placed.Ref.Command[0], access.Execute)
		}
	}
	for i, k := range conf.KeyStores {
		for j, path := range k.Policy.Files {
			key := fmt.Sprintf("%s[%d]", config.PolicyFilesKey(i), j)
			pattern := filepath.Join(config.EscapeGlob(path), "*.cedar")
			files, _ := filepath.Glob(pattern) // it is a good one
			right := access.Read
			info, err := os.Stat(path)
			if err == nil && info.IsDir() {
				right = access.List
			}
			add(key, path, right)
			for _, file := range files {
				add(key, file, access.Read)
			}
		}
	}
	add(config.WebConfigKey, conf.Metrics.WebConfig, access.Read)
	if conf.Metrics.WebConfig != "" && !c.Options.NoSecrets {
		for _, file := range webconfig.Files(conf.Metrics.WebConfig) {
			add(config.WebConfigKey, file, access.Read)
		}
	}
	add("state_directory", conf.StateDirectory, access.Fill)
	add("log.output", conf.Log.Output, access.Append)
	if conf.Admin.Socket != "" {
		add("admin.socket", filepath.Dir(conf.Admin.Socket), access.Fill)
	}
	return needs
}

var verbs = map[access.Right]string{
	access.Read: "read", access.List: "list", access.Execute: "run",
	access.Append: "write to", access.Fill: "write to",
}

// access reports what the user cannot use.
func (c *Result) access(ctx context.Context) {
	if c.Options.AsUser == nil {
		return
	}
	user := *c.Options.AsUser
	needs := c.accessNeeds()
	refusals, tried := c.askKernel(ctx, user, needs)
	c.stateOwner(user)
	places := map[string]*closedPlace{}
	var order []*closedPlace
	for i, need := range needs {
		var err error
		if tried {
			err = refusals[i].err()
		} else {
			err = user.Computed(need.Need)
		}
		var refused *access.Refusal
		switch {
		case err == nil:
		case errors.Is(err, fs.ErrNotExist), need.isMissing(): // reported as such
		case errors.As(err, &refused):
			place := places[err.Error()]
			if place == nil {
				place = &closedPlace{first: need, files: map[string]bool{}, refusal: refused}
				places[err.Error()] = place
				order = append(order, place)
			}
			place.files[need.Path] = true
		default:
			c.leaveOut(
				"whether the user %s can %s %s: %v",
				user.Name,
				verbs[need.Right],
				need.Path,
				err,
			)
		}
	}
	for _, place := range order {
		key := place.first.key
		c.Report.ErrorAt(
			c.Report.Origin(key),
			key,
			"the user %s cannot %s; %s",
			user.Name,
			place,
			strings.ReplaceAll(place.refusal.Remedy, "USER", user.Name),
		)
	}
	if !tried {
		c.leaveOut(
			"ACLs and file systems: the rights of %s are computed from owners and modes; "+
				"as root, they are tried",
			user.Name,
		)
	}
}

// stateOwner reports a state directory of another user. serve refuses it, writable or not, because
// that user could remove a block (durable.CheckDirectory).
func (c *Result) stateOwner(user access.User) {
	directory := c.Config.StateDirectory
	info, err := os.Stat(directory)
	if err != nil || directory == "" {
		return
	}
	owner, known := info.Sys().(*syscall.Stat_t)
	if known && owner.Uid != user.UID && owner.Uid != 0 {
		c.Report.Errorf(
			"state_directory",
			"%s belongs to user id %d, and the proxy of user %s would refuse it; check its "+
				"content, "+
				"then run: chown %s %s",
			directory,
			owner.Uid,
			user.Name,
			user.Name,
			directory,
		)
	}
}

// closedPlace refuses the user one file, or all that are below it.
type closedPlace struct {
	first   accessNeed
	files   map[string]bool // by path
	refusal *access.Refusal
}

// String says what the user cannot do there, and why.
func (p *closedPlace) String() string {
	first := verbs[p.first.Right] + " " + p.first.Path
	if p.refusal.At == p.first.Path {
		return first + " (" + p.refusal.Detail + ")"
	}
	if more := len(p.files) - 1; more > 0 {
		first += " or use " + text.Plural(more, "other file") + " of the configuration"
	}
	return first + ": " + p.refusal.Error()
}

// isMissing reports whether a file that has to be there is not, as far as this process sees.
func (n accessNeed) isMissing() bool {
	_, err := os.Stat(n.Path)
	return errors.Is(err, fs.ErrNotExist) && n.Right != access.Fill && n.Right != access.Append
}

// triedNeed is the child's answer about one need.
type triedNeed struct {
	Refusal *access.Refusal `json:"refusal,omitempty"`
	Missing bool            `json:"missing,omitempty"`
	Other   string          `json:"other,omitempty"`
}

func (t triedNeed) err() error {
	switch {
	case t.Refusal != nil:
		return t.Refusal
	case t.Missing:
		return fs.ErrNotExist
	case t.Other != "":
		return errors.New(t.Other)
	}
	return nil
}

// askKernel tries the rights in a process that runs as the user. It returns false if it cannot
// start such a process.
func (c *Result) askKernel(
	ctx context.Context,
	user access.User,
	needs []accessNeed,
) ([]triedNeed, bool) {
	list := make([]access.Need, 0, len(needs))
	for _, need := range needs {
		list = append(list, need.Need)
	}
	if user.IsSelf() {
		return TryAll(list), true
	}
	input, err := json.Marshal(list)
	if err != nil {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(ctx, tryAccessTimeout)
	defer cancel()
	said, _, err := subprocess.Child{
		Arguments: []string{"config", TryAccessCommand}, Directory: "/",
		Environment: tryAccessEnvironment, Input: input, Credential: user.Credential(),
	}.Run(ctx)
	if err != nil {
		return nil, false
	}
	var answers []triedNeed
	err = json.Unmarshal([]byte(said), &answers)
	return answers, err == nil && len(answers) == len(needs)
}

// TryAll tries each right for this process. It answers in the order of needs.
func TryAll(needs []access.Need) []triedNeed {
	answers := make([]triedNeed, len(needs))
	for i, need := range needs {
		err := access.Tried(need)
		var refused *access.Refusal
		switch {
		case err == nil:
		case errors.As(err, &refused):
			answers[i].Refusal = refused
		case errors.Is(err, fs.ErrNotExist):
			answers[i].Missing = true
		default:
			answers[i].Other = strings.TrimSpace(err.Error())
		}
	}
	return answers
}
