// Package lastuse remembers across restarts when each credential was last used (requirement A5).
package lastuse

// When each credential was last used, across restarts: an operator who rotates one must not take it
// for unused because the proxy was restarted meanwhile (A5). Best effort: nothing depends on it but
// what `credentials list` and a metric say.

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
	FileName         = "last_used.json"
	lastUsesInterval = time.Minute
	maxLastUsesFile  = 64 << 20 // bytes; some 400,000 credentials
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
	Since  time.Time `json:"since"`  // nothing is known of before
	Uses   []lastUse `json:"uses"`
}

// Uses is what earlier runs of the program knew.
type Uses struct {
	path  string // "": nothing is remembered
	Since time.Time
	log   *zap.Logger

	mu   sync.Mutex
	uses map[credentialName]time.Time
}

// Open reads what is remembered in a state directory; now is since when something is known if
// nothing is.
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
			"when credentials were last used before this start is not known; it is written anew",
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

// Overlay fills in the last uses that were before this run.
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

// Keep remembers once a minute what stores says, and a last time when the func that it returns is
// called.
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
		return // the proxy starts: what is remembered stays
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
			"when credentials were last used will not be known after a restart",
			zap.Error(err),
		)
	}
}

// changed takes over what is known now.
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
