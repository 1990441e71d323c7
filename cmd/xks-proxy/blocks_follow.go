package main

// Blocks follow what AWS KMS calls. Key stores are blocked by name, and the name is the operators' own, by default that of a file:
// were the block bound to it alone, renaming a file would unblock. So a block remembers the XksProxyUriPath, too.

import (
	"fmt"
	"slices"

	"go.uber.org/zap"

	"xks-proxy/pkg/xks"
)

// follow blocks every key store of c that has the path of a blocked one under another name, or the same key of it. It is to
// be called before requests are served under c. What it adds is an entry like any other, to be taken back by name. The
// error is errTooManyBlocks: then c must not be served.
func (k *killSwitch) follow(c *config, log *zap.Logger) error {
	changed, err := k.followAll(c, log)
	if err != nil || !changed {
		return err
	}
	saved := make(chan error, 1)
	go func() { saved <- k.save() }()
	err = k.awaitSave(saved)
	if err != nil {
		log.Error("what is blocked will not survive a restart", zap.Error(err)) // it is in force
	}
	return nil
}

func (k *killSwitch) followAll(c *config, log *zap.Logger) (bool, error) {
	paths, names := map[string]string{}, map[string]string{}
	for _, store := range c.KeyStores {
		path := xks.URIPath(store.PathPrefix)
		paths[store.Name], names[path] = path, store.Name
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	blocks, changed := slices.Clone(k.blocks), false
	for i, b := range k.blocks {
		if b.KeyStore == "" {
			continue
		}
		heir, served := names[b.URIPath]
		target := blockTarget{KeyStore: heir, Key: b.Key}
		if _, found := findBlock(blocks, target); served && !found {
			log.Warn("a blocked key store has another name now; the block follows", zap.Stringer("blocked", b.blockTarget), zap.Stringer("now", target),
				zap.String("uri_path", b.URIPath), zap.String("reason", b.Reason))
			next := b
			next.blockTarget = target
			blocks, changed = append(blocks, next), true
		}
		if path, there := paths[b.KeyStore]; there && path != b.URIPath {
			blocks[i].URIPath, changed = path, true
		}
	}
	if len(blocks) > maxBlocks {
		return false, fmt.Errorf("%w: %d would be needed for key stores that were renamed; unblock some, or give them their old names", errTooManyBlocks, len(blocks))
	}
	if changed {
		k.blocks = blocks
		k.enforce()
	}
	return changed, nil
}
