package main

// What must hold after a row: the HSMs are healthy, and every acknowledged ciphertext decrypts to its
// plaintext, on each HSM by itself and through the proxy.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"xks-proxy/test/harness"
)

const (
	healLimit   = 30 * time.Second
	healthyFor  = 300 * time.Millisecond // without a break, before an HSM counts as healed
	healthEvery = 20 * time.Millisecond
	batchSize   = 50_000 // ciphertexts that one child decrypts
	throughHere = 200    // ciphertexts of a row that are decrypted through the proxy, too
)

// health is what GetHealthStatus says of each HSM.
func (w *world) health() (map[string]string, error) {
	w.serial++
	body := harness.HealthBody(fmt.Sprintf("health-%d", w.serial))
	status, reply, err := w.conn.Exchange(w.client.Request(harness.HealthPath, body))
	if err != nil {
		return nil, fmt.Errorf("GetHealthStatus: %w", err)
	}
	if status != 200 {
		return nil, fmt.Errorf("GetHealthStatus: %d %s", status, reply)
	}
	var answer struct {
		Fleet []struct{ ID, HealthStatus string } `json:"ekmFleetDetails"`
	}
	err = json.Unmarshal(reply, &answer)
	if err != nil {
		return nil, fmt.Errorf("GetHealthStatus: %w", err)
	}
	fleet := map[string]string{}
	for _, h := range answer.Fleet {
		fleet[h.ID] = h.HealthStatus
	}
	return fleet, nil
}

// waitHealthy waits until every HSM is ACTIVE and in service and stays so for a moment, and gives
// the time until the first moment of that.
func (w *world) waitHealthy(limit time.Duration) (time.Duration, error) {
	start := time.Now()
	since := start
	for time.Since(start) < limit {
		fleet, err := w.health()
		switch {
		case err != nil && w.program.HasExited():
			return 0, fmt.Errorf("the program has ended; its last lines:\n%s", w.program.Tail(5))
		case err != nil || !w.allActive(fleet) || w.program.anyOut():
			since = time.Now()
		case time.Since(since) >= healthyFor:
			return since.Sub(start), nil
		}
		time.Sleep(healthEvery)
	}
	fleet, err := w.health()
	return limit, fmt.Errorf("not healthy after %v: GetHealthStatus %v (%v); the log's last lines:\n%s", limit, fleet, err, w.program.Tail(5))
}

func (w *world) allActive(fleet map[string]string) bool {
	for _, t := range w.targets {
		if fleet[t.Name] != "ACTIVE" {
			return false
		}
	}
	return true
}

// verify decrypts every record on each HSM, around the proxy, and some through it. It counts what is
// wrong and describes the first.
func (w *world) verify(records []*record) (int, string, error) {
	wrong, first := 0, ""
	note := func(n int, what string) {
		wrong += n
		if first == "" && n > 0 {
			first = what
		}
	}
	note(w.countRepeated(records))
	var mu sync.Mutex
	var failed error
	var running sync.WaitGroup
	for _, t := range w.targets {
		running.Go(func() {
			for batch := range slices.Chunk(records, batchSize) {
				result, err := t.do(tokenJob{Decrypt: batch})
				mu.Lock()
				note(result.Wrong, result.First)
				failed = errors.Join(failed, err)
				mu.Unlock()
			}
		})
	}
	running.Wait()
	if failed != nil {
		return wrong, first, failed
	}
	every := max(1, len(records)/throughHere)
	for i := 0; i < len(records); i += every {
		what := w.decryptAgain(records[i], i)
		if what != "" {
			note(1, what)
		}
	}
	return wrong, first, nil
}

// countRepeated counts the IVs that came before with the same key: one is the end of GCM's promises.
func (w *world) countRepeated(records []*record) (int, string) {
	repeated := 0
	for _, r := range records {
		id := fmt.Sprintf("%d %x %x", r.Key, r.Metadata, r.IV)
		if w.ivs[id] {
			repeated++
		}
		w.ivs[id] = true
	}
	return repeated, "an IV came twice with one key"
}

// decryptAgain says what is wrong with a record; "" if it decrypts through the proxy.
func (w *world) decryptAgain(r *record, n int) string {
	w.serial++
	id := fmt.Sprintf("again-%d-%d", w.serial, n)
	body := harness.AppendDecryptBody(nil, id, &r.Sealed, aadOf(r.AAD))
	status, reply, err := w.conn.Exchange(w.client.Request(harness.DecryptPath(keyLabels[r.Key]), body))
	switch {
	case err != nil:
		return fmt.Sprintf("an acknowledged ciphertext, decrypted later: %v", err)
	case status != 200:
		return fmt.Sprintf("an acknowledged ciphertext, decrypted later: %d %s; log line: %s", status, reply, w.program.about(id))
	case !bytes.Equal(harness.Field(reply, "plaintext"), r.Plaintext):
		return "an acknowledged ciphertext decrypts to another plaintext"
	}
	return ""
}
