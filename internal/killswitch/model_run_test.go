package killswitch

// The runs of the model of model_test.go: what is done, at random, and how a run ends.

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func (m *model) step() {
	stores := []string{"a", "b", "c"}
	target := BlockTarget{KeyStore: stores[m.random.IntN(len(stores))]}
	switch m.random.IntN(6) {
	case 0, 1:
		target.Key = "k"
	case 2:
		target = BlockTarget{Key: "label"}
	}
	switch n := m.random.IntN(100); {
	case n < 20:
		m.block(target)
	case n < 45:
		m.unblock(target)
	case n < 55:
		m.Reload(modelConfigs[m.random.IntN(len(modelConfigs))], m.random.IntN(4) > 0)
	case n < 58:
		m.restart()
	case n < 64 && len(m.orders) > 0:
		o := m.orders[m.random.IntN(len(m.orders))]
		m.tell("%s: its caller goes", o.name)
		o.cancel()
	case n < 68:
		m.tell("time passes")
		time.Sleep(time.Duration(m.random.IntN(4)) * 1300 * time.Millisecond)
	case len(m.disk.pending) > 0:
		m.decide()
	}
}

func (m *model) decide() {
	switch m.random.IntN(6) {
	case 0:
		m.tell("the disk fails")
		m.disk.decide(false, errModelDisk)
	case 1:
		m.tell("the disk fails after it has written")
		m.disk.decide(true, errModelDisk)
	default:
		m.tell("the disk writes")
		m.disk.decide(true, nil)
	}
}

// end lets everything end, so that nothing of it is left. When all has ended, memory and file say
// the same.
func (m *model) end() {
	for range 100 {
		synctest.Wait()
		m.check()
		if len(m.disk.pending) > 0 {
			m.disk.decide(true, nil)
			continue
		}
		m.k.mu.Lock()
		saved := m.k.file.saved == m.k.file.wanted
		m.k.mu.Unlock()
		if len(m.orders) == 0 && saved {
			m.compareFile()
			return
		}
		time.Sleep(time.Second)
	}
	m.t.Fatalf("it does not come to an end:\n%s", strings.Join(m.story, "\n"))
}

// abandon lets what is under way end, also after a failure.
func (m *model) abandon() {
	m.disk.dead = true
	for len(m.disk.pending) > 0 {
		m.disk.decide(false, errModelDisk)
	}
	m.k.Close()
	synctest.Wait()
}

func (m *model) compareFile() {
	current, unsaved := m.k.List()
	var inFile []Block
	if m.disk.content != nil {
		var err error
		inFile, err = parseBlocks(m.disk.content)
		if err != nil {
			m.t.Fatal(err)
		}
	}
	if unsaved != nil || !slices.Equal(current, inFile) {
		m.t.Fatalf(
			"in effect %v, in the file %v, %v\n%s",
			current,
			inFile,
			unsaved,
			strings.Join(m.story, "\n"),
		)
	}
}

func TestKillSwitchAgainstAModel(t *testing.T) {
	runs := 4000
	if testing.Short() {
		runs = 500
	}
	for seed := range uint64(runs) {
		synctest.Test(t, func(t *testing.T) {
			m := newModel(t, seed)
			defer m.abandon()
			for range 40 {
				m.step()
				synctest.Wait()
				m.check()
			}
			m.end()
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
