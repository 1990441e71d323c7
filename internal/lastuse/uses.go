// Package lastuse remembers across restarts when each credential was last used (requirement A5).
package lastuse

// An operator who rotates a credential must not take it for unused because the proxy was restarted
// meanwhile. This is best effort: only `credentials list` and a metric depend on it.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"xks-proxy/pkg/durable"
	"xks-proxy/pkg/xks"
)

const (
	lastUsesFormat   = 1
	lastUsesInterval = time.Minute
	maxLastUsesFile  = 64 << 20 // bytes; some 400,000 credentials

	// FileName is the name of the file in the state directory.
	FileName = "last_used.json"
)

// credentialName is one credential of one key store.
type credentialName struct {
	KeyStore    string `json:"keyStore"`
	AccessKeyID string `json:"accessKeyId"`
}

type lastUse struct {
	credentialName
	At time.Time `json:"at"`
}

// lastUsesFile is the content of last_used.json.
type lastUsesFile struct {
	Format int       `json:"format"` // 1
	Since  time.Time `json:"since"`  // uses before are not known
	Uses   []lastUse `json:"uses"`
}

// Uses are the last uses of credentials in earlier runs of the program.
type Uses struct {
	path  string    // of the file; "": nothing is kept
	Since time.Time // UTC; uses before are not known
	log   *zap.Logger

	mu   sync.Mutex
	uses map[credentialName]time.Time
}

// Open reads the file in a state directory. If it cannot be read, it logs a warning, and uses are
// known since now. With "" nothing is kept.
func Open(stateDirectory string, now time.Time, log *zap.Logger) *Uses {
	u := &Uses{
		Since: now.UTC().Truncate(time.Second),
		log:   log,
		uses:  map[credentialName]time.Time{},
	}
	if stateDirectory == "" {
		return u
	}
	u.path = filepath.Join(stateDirectory, FileName)
	err := u.read()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn(
			"cannot read when credentials were last used: a new file will be written",
			zap.Error(err),
		)
	}
	return u
}

func (u *Uses) read() error {
	data, err := durable.ReadFile(u.path, maxLastUsesFile)
	if err != nil {
		return err
	}
	var file lastUsesFile
	err = json.Unmarshal(data, &file)
	if err != nil {
		return fmt.Errorf("%s: %w", u.path, err)
	}
	if file.Format != lastUsesFormat {
		return fmt.Errorf("%s: format %d is not known to this version", u.path, file.Format)
	}
	u.Since = file.Since
	for _, use := range file.Uses {
		u.uses[use.credentialName] = use.At
	}
	return nil
}

// Overlay returns stores with the last uses of earlier runs filled in.
func (u *Uses) Overlay(stores []xks.KeyStoreStatus) []xks.KeyStoreStatus {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, k := range stores {
		credentials := slices.Clone(k.Credentials) // the handler may still use its own
		for j, c := range credentials {
			if c.LastUsed.IsZero() {
				credentials[j].LastUsed = u.uses[credentialName{k.Name, c.AccessKeyID}]
			}
		}
		stores[i].Credentials = credentials
	}
	return stores
}

// Keep writes the last uses that stores returns to the file once a minute. It returns a function
// that writes them a last time and stops.
func (u *Uses) Keep(stores func() []xks.KeyStoreStatus) func() {
	if u.path == "" {
		return func() {}
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		beat := time.NewTicker(lastUsesInterval)
		defer beat.Stop()
		for {
			select {
			case <-beat.C:
				u.remember(stores())
			case <-stop:
				u.remember(stores())
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-ended
	}
}

// remember writes the file if a credential was used, came or went.
func (u *Uses) remember(stores []xks.KeyStoreStatus) {
	if len(stores) == 0 {
		return // the proxy is starting: keep the file
	}
	file := lastUsesFile{Format: lastUsesFormat, Since: u.Since, Uses: []lastUse{}}
	now := map[credentialName]time.Time{}
	for _, s := range stores {
		for _, c := range s.Credentials {
			if c.LastUsed.IsZero() {
				continue
			}
			name := credentialName{s.Name, c.AccessKeyID}
			now[name] = c.LastUsed
			file.Uses = append(file.Uses, lastUse{name, c.LastUsed})
		}
	}
	if !u.changed(now) {
		return
	}
	data, err := json.Marshal(file)
	if err == nil {
		err = durable.ReplaceFile(u.path, data)
	}
	if err != nil {
		u.log.Warn(
			"cannot write when credentials were last used: it will be unknown after a restart",
			zap.Error(err),
		)
	}
}

// changed stores the present uses, and reports whether they differ from those before.
func (u *Uses) changed(now map[credentialName]time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	same := len(now) == len(u.uses)
	for name, at := range now {
		same = same && u.uses[name].Equal(at)
	}
	u.uses = now
	return !same
}
