package killswitch

// Blocks follow what AWS KMS calls. Key stores are blocked by name, and the name is the operators'
// own, by default that of a file: if the block depended on it alone, renaming a file would unblock.
// So a block has the XksProxyUriPath, too, and is in effect for the key store of that name and for
// the one at that path. A configuration that comes into use is where it learns the new name, or
// the new path, before the next reload changes the other.

import (
	"fmt"
	"maps"
	"slices"

	"go.uber.org/zap"
)

// Follow has key stores served, and has every block follow the key store that it is about: all at
// once, with no order in between. paths has the XksProxyUriPath of each key store, by name. A key
// store that is at the path of a blocked one under another name gets an entry like any other. What
// serve returns is returned, and then nothing was changed. errTooManyBlocks: the key stores must
// not be served.
//
// It does not wait for the disk: until the file is written, the old file blocks the same.
func (k *Switch) Follow(paths map[string]string, log *zap.Logger, serve func() error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	blocks, followers := followPaths(k.blocks, paths)
	if len(blocks) > maxBlocks {
		return fmt.Errorf(
			"%w: %d would be needed for key stores that were renamed; unblock some, or give them their old names",
			ErrTooManyBlocks,
			len(blocks),
		)
	}
	err := serve()
	if err != nil {
		return err
	}
	changed := len(k.leaving) > 0 || !slices.Equal(blocks, k.blocks) // marks may change, too
	k.followMarks(followers)
	for _, f := range followers {
		if f.added {
			log.Warn(
				"a blocked key store has another name now; the block follows",
				zap.Stringer("blocked", f.old),
				zap.Stringer("now", f.heir),
				zap.String("uri_path", paths[f.heir.KeyStore]),
			)
		}
	}
	k.blocks, k.paths = blocks, paths
	if changed {
		k.enforce()
		k.changed()
	}
	return nil
}

// follower is a block that is in effect for a key store because that has the path of a blocked one.
type follower struct {
	old, heir BlockTarget
	added     bool // there was no block of heir before
}

// followMarks requires mu. An unblock that takes the old block back takes a new one back, too: it
// was about that key store when it began. A block that follows several goes only with an unblock
// that takes back all of them, and itself.
func (k *Switch) followMarks(followers []follower) {
	before := maps.Clone(k.leaving)
	for _, f := range followers {
		by := maps.Clone(before[f.old])
		if !f.added {
			maps.DeleteFunc(by, func(u *unblocking, _ bool) bool { return !k.leaving[f.heir][u] })
		}
		k.leaving[f.heir] = by
		if len(by) == 0 {
			delete(k.leaving, f.heir)
		}
	}
}

// followPaths is what blocks are when key stores have these paths, by name: each has the path that
// its key store has now, and there is another for the key store that has its path now.
func followPaths(blocks []Block, paths map[string]string) ([]Block, []follower) {
	names := map[string]string{}
	for name, path := range paths {
		names[path] = name
	}
	next, followers := slices.Clone(blocks), []follower{}
	for i, b := range blocks {
		if b.KeyStore == "" {
			continue
		}
		if heir, served := names[b.URIPath]; served && heir != b.KeyStore {
			f := follower{old: b.BlockTarget, heir: BlockTarget{KeyStore: heir, Key: b.Key}}
			_, found := findBlock(next, f.heir)
			if !found {
				added := b
				added.BlockTarget, f.added = f.heir, true
				next = append(next, added)
			}
			followers = append(followers, f)
		}
		if path, there := paths[b.KeyStore]; there {
			next[i].URIPath = path
		}
	}
	return next, followers
}

// Know says which key stores will be served, with the paths as in follow, for the orders that come
// before the first of them is.
func (k *Switch) Know(paths map[string]string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.paths = paths
}
