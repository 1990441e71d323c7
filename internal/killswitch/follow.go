package killswitch

// Blocks follow renamed key stores. Operators block a key store by its name, which by default is
// that of its file. If a block depended on the name alone, renaming the file would unblock. So a
// block also has the XksProxyUriPath that AWS KMS calls, and applies to the key store of that name
// and to the one at that path. At each reload, blocks learn the new name or the new path, before
// the next reload changes the other one.

import (
	"fmt"
	"maps"
	"slices"

	"go.uber.org/zap"
)

// Follow calls serve, which makes the key stores of a new configuration available, and makes every
// block follow its key store. No order takes effect in between. paths has the XksProxyUriPath of
// each key store, by name. If a key store has the path of a blocked one and another name, it gets a
// block of its own.
//
// The error is that of serve, or ErrTooManyBlocks without calling serve. In both cases nothing was
// changed. Follow does not wait for the disk: until the file is written, the old file blocks the
// same.
func (k *Switch) Follow(paths map[string]string, log *zap.Logger, serve func() error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	blocks, followers := followPaths(k.blocks, paths)
	if len(blocks) > maxBlocks {
		return fmt.Errorf(
			"%w: %d would be needed for key stores that were renamed; unblock some, or give them "+
				"their old names",
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
				"a blocked key store was renamed: the block follows it",
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

// follower is a block of a key store that has the path of a blocked one.
type follower struct {
	old, heir BlockTarget
	added     bool // there was no block of heir before
}

// followMarks requires mu. An unblock of the old block also removes the new one, because it was
// about that key store when it began. A block that follows several is removed only by an unblock of
// all of them and of itself.
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

// followPaths returns the blocks after key stores have got these paths, by name. Each block has the
// present path of its key store, and the key store that has its former path gets another block.
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

// Know sets the paths of the key stores, as in Follow, for orders that arrive before the first call
// of Follow.
func (k *Switch) Know(paths map[string]string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.paths = paths
}
