package killswitch

// The file that keeps the blocks across restarts. If it cannot be read, it is unknown what must not
// be served, so the program does not start.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"xks-proxy/pkg/durable"
)

// blocksFile is the content of blocks.json.
type blocksFile struct {
	Format int     `json:"format"` // 1
	Blocks []Block `json:"blocks"`
}

const (
	maxBlocksFile   = 16 << 20 // bytes; maxBlocks of the largest entries fit in
	maxLoggedBlocks = 20
)

// Open loads the blocks from a state directory. With "" blocks do not survive a restart. An error
// means that it is unknown what is blocked: do not serve.
func Open(stateDirectory string, log *zap.Logger) (*Switch, error) {
	if stateDirectory == "" {
		return New("", nil, log), nil
	}
	k := New(filepath.Join(stateDirectory, FileName), durable.ReplaceFile, log)
	var err error
	k.blocks, err = readBlocks(k.path)
	if err != nil {
		return nil, fmt.Errorf(
			"cannot read %s, so blocked keys and key stores are unknown: refusing to start: %w; "+
				"restore the file, or delete it to serve without blocks and set them again with "+
				"xks-proxy block",
			k.path, err,
		)
	}
	err = durable.RemoveUnfinished(k.path)
	if err != nil {
		log.Warn("an unfinished file of an earlier run cannot be removed", zap.Error(err))
	}
	logBlocks(log, k.blocks)
	return k, nil
}

// logBlocks logs at each start what is blocked.
func logBlocks(log *zap.Logger, blocks []Block) {
	if len(blocks) == 0 {
		return
	}
	var names []string
	for _, b := range blocks[:min(len(blocks), maxLoggedBlocks)] {
		names = append(names, b.String())
	}
	log.Warn(
		"blocks of operators are in effect",
		zap.Int("blocks", len(blocks)),
		zap.Strings("what", names),
		zap.Int("not_named", len(blocks)-len(names)),
	)
}

// readBlocks is strict, because a block that it skipped would not be in effect.
func readBlocks(path string) ([]Block, error) {
	data, err := durable.ReadFile(path, maxBlocksFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseBlocks(data)
}

func parseBlocks(data []byte) ([]Block, error) {
	var head struct {
		Format int `json:"format"`
	}
	err := json.Unmarshal(data, &head)
	if err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	if head.Format != blocksFormat {
		return nil, fmt.Errorf(
			"its format %d is not known to this version of the program",
			head.Format,
		)
	}
	var content blocksFile
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	err = decoder.Decode(&content)
	if err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	if content.Blocks == nil {
		return nil, errors.New("it is damaged: it has no list of blocks")
	}
	if len(content.Blocks) > maxBlocks {
		return nil, fmt.Errorf(
			"it holds %d blocks, and there can be %d",
			len(content.Blocks),
			maxBlocks,
		)
	}
	for i, b := range content.Blocks {
		err := errors.Join(b.Check(), CheckReason(b.Reason))
		if err != nil {
			return nil, fmt.Errorf("its entry %d is damaged: %w", i+1, err)
		}
	}
	return content.Blocks, nil
}

// Look is List for status and metrics. It also returns an error if the file was deleted while the
// proxy ran.
func (k *Switch) Look() ([]Block, error) {
	blocks, unsaved := k.List()
	if unsaved != nil || k.path == "" || len(blocks) == 0 {
		return blocks, unsaved
	}
	_, err := os.Lstat(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return blocks, fmt.Errorf("%s was deleted while the proxy ran", k.path)
	}
	return blocks, nil
}

// writeFile writes a list of blocks. One at a time.
func (k *Switch) writeFile(blocks []Block) error {
	data, err := json.MarshalIndent(
		blocksFile{Format: blocksFormat, Blocks: append([]Block{}, blocks...)},
		"",
		"  ",
	)
	if err != nil {
		return err
	}
	return k.Write(k.path, append(data, '\n'))
}
