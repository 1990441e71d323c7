package main

// Many key stores, each in a file of its own, beside one: what their start costs, an Encrypt, and a
// reload under load.

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"xks-proxy/pkg/sigv4"
	"xks-proxy/test/harness"
)

const (
	pacedRate        = 300 // requests a second while it is reloaded
	pacedConnections = 8
	pacedTime        = 10 * time.Second
)

// measureStores serves the same tokens twice, with one key store and with many.
func (o *options) measureStores() error {
	if o.storeKeys < o.stores {
		return fmt.Errorf(
			"-store-keys: %d keys are too few for %d key stores",
			o.storeKeys,
			o.stores,
		)
	}
	d, err := harness.Prepare(
		context.Background(),
		o.proxy,
		filepath.Join(o.directory, "stores"),
		o.storeKeys,
	)
	if err != nil {
		return err
	}
	stores, err := writeStores(d, o.stores)
	if err != nil {
		return err
	}
	fmt.Printf(
		"%d keys on each token\n\n| key stores | start to the first Encrypt, median of %d |\n|---|---|\n",
		o.storeKeys,
		o.rounds,
	)
	one, err := o.startOften(d, 1, storeOf(d), "XKS_KEY_STORE_DIRECTORY=")
	if err != nil {
		return err
	}
	defer one.stop()
	many, err := o.startOften(
		d,
		o.stores,
		stores[len(stores)/2],
		"XKS_KEY_STORES_0_KEYS_LABELS=none",
	) // the demo's key store would share keys with all
	if err != nil {
		return err
	}
	defer many.stop()
	err = o.compareStores(one, many)
	if err != nil {
		return err
	}
	return o.reloadStores(many, stores)
}

// writeStores makes a file, a credential and a share of the keys for each key store.
func writeStores(d *harness.Demo, count int) ([]keyStore, error) {
	err := os.MkdirAll(d.File("key_stores.d/secrets"), 0o700)
	if err != nil {
		return nil, err
	}
	var stores []keyStore
	for i := range count {
		made, err := sigv4.GenerateCredential()
		if err != nil {
			return nil, err
		}
		each := len(d.Keys) / count
		keys := d.Keys[i*each : (i+1)*each]
		s := keyStore{
			name:       fmt.Sprintf("store-%04d", i),
			path:       fmt.Sprintf("/agency-%04d/bench/kms/xks/v1", i),
			credential: made,
			key:        keys[len(keys)/2],
		}
		err = os.WriteFile(
			d.File("key_stores.d/secrets/"+s.name+".key"),
			[]byte(made.SecretAccessKey+"\n"),
			0o600,
		)
		if err != nil {
			return nil, err
		}
		text := fmt.Sprintf(
			"owner: agency-%04d\napplication: bench\npath_prefix: /{owner}/{application}\nhsm_group: main\n"+
				"credentials: [{access_key_id: %s, secret_access_key: {file: \"secrets/{name}.key\"}}]\nkeys: {labels: [\"%s\"]}\n",
			i,
			made.AccessKeyID,
			strings.Join(keys, `", "`),
		)
		err = os.WriteFile(d.File("key_stores.d/"+s.name+".yaml"), []byte(text), 0o600)
		if err != nil {
			return nil, err
		}
		stores = append(stores, s)
	}
	return stores, nil
}

// startOften starts it several times, as if it had never run, prints a row and leaves the last one
// running.
func (o *options) startOften(
	d *harness.Demo,
	stores int,
	store keyStore,
	environment string,
) (*server, error) {
	var took []time.Duration
	for round := 1; ; round++ {
		address, err := freeAddress()
		if err != nil {
			return nil, err
		}
		state := d.File(fmt.Sprintf("state-%d-%d", stores, round))
		s, err := startProxy(
			o,
			d,
			address,
			store,
			environment,
			"XKS_STATE_DIRECTORY="+state,
			"XKS_ADMIN_SOCKET="+state+".sock",
			"XKS_RELOAD_INTERVAL=0s",
			"XKS_HSM_GROUPS_0_CATALOGUE_INTERVAL=1h",
		) // listing thousands of keys again would come into some measurements only
		if err != nil {
			return nil, err
		}
		took = append(took, s.took)
		if round == o.rounds {
			slices.Sort(took)
			fmt.Printf(
				"| %d | %.2f s (%.2f–%.2f) |\n",
				stores,
				took[round/2].Seconds(),
				took[0].Seconds(),
				took[round-1].Seconds(),
			)
			s.socket = state + ".sock"
			return s, nil
		}
		s.stop()
	}
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// compareStores measures an Encrypt of one and of many in turn.
func (o *options) compareStores(one, many *server) error {
	few, err := one.message(opEncrypt)
	if err != nil {
		return err
	}
	lots, err := many.message(opEncrypt)
	if err != nil {
		return err
	}
	var fewer, more []result
	var ratios []float64
	for range o.rounds {
		a, err := o.measure(one, few)
		if err != nil {
			return err
		}
		b, err := o.measure(many, lots)
		if err != nil {
			return err
		}
		fewer, more, ratios = append(
			fewer,
			a,
		), append(
			more,
			b,
		), append(
			ratios,
			b.cpu.Seconds()/a.cpu.Seconds(),
		)
	}
	slices.Sort(ratios)
	a, b := medianByCPU(fewer), medianByCPU(more)
	fmt.Printf(
		"\n| key stores | CPU an Encrypt | requests/s | p50 | p99 |\n|---|---|---|---|---|\n",
	)
	fmt.Printf(
		"| 1 | %.1f µs | %.0f | %.2f ms | %.2f ms |\n",
		microseconds(a.cpu),
		a.perSecond,
		milliseconds(a.p50),
		milliseconds(a.p99),
	)
	fmt.Printf(
		"| %d | %.1f µs | %.0f | %.2f ms | %.2f ms |\n",
		o.stores,
		microseconds(b.cpu),
		b.perSecond,
		milliseconds(b.p50),
		milliseconds(b.p99),
	)
	fmt.Printf(
		"\nratio %.3f (%.3f–%.3f)\n",
		ratios[len(ratios)/2],
		ratios[0],
		ratios[len(ratios)-1],
	)
	return nil
}

// reloadStores measures requests at a steady rate, alone and while a key store changes every
// second.
func (o *options) reloadStores(many *server, stores []keyStore) error {
	fmt.Printf(
		"\n| %d Encrypts a second | p50 | p99 | max | reloads | each |\n|---|---|---|---|---|---|\n",
		pacedRate,
	)
	for _, reloads := range []bool{false, true, false, true} {
		done, failed := make(chan struct{}), make(chan error, 1)
		var took []time.Duration
		go func() {
			for n := 0; reloads; n++ {
				select {
				case <-done:
					failed <- nil
					return
				case <-time.After(time.Second):
				}
				one, err := o.reloadChanged(many, stores[n%len(stores)], n)
				if err != nil {
					failed <- err
					return
				}
				took = append(took, one)
			}
			failed <- nil
		}()
		latencies, err := pacedLoad(many)
		close(done)
		if err != nil {
			return err
		}
		err = <-failed
		if err != nil {
			return err
		}
		slices.Sort(latencies)
		slices.Sort(took)
		n := len(latencies)
		each := "-"
		if len(took) > 0 {
			each = fmt.Sprintf(
				"%.0f ms, %.0f at most",
				milliseconds(took[len(took)/2]),
				milliseconds(took[len(took)-1]),
			)
		}
		fmt.Printf(
			"| %d, none failed | %.2f ms | %.2f ms | %.2f ms | %d | %s |\n",
			n,
			milliseconds(latencies[n/2]),
			milliseconds(latencies[n*99/100]),
			milliseconds(latencies[n-1]),
			len(took),
			each,
		)
	}
	return nil
}

// reloadChanged gives a key store another quota and reloads. The time is that of the
// command.
func (o *options) reloadChanged(s *server, store keyStore, n int) (time.Duration, error) {
	file := s.demo.File("key_stores.d/" + store.name + ".yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	before, _, _ := strings.Cut(string(text), "quota:")
	err = os.WriteFile(
		file+".new",
		fmt.Appendf(nil, "%squota: {requests_per_second: %d}\n", before, 10000+n),
		0o600,
	)
	if err != nil {
		return 0, err
	}
	err = os.Rename(file+".new", file)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	output, err := exec.Command(o.proxy, "reload", "--socket", s.socket).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("reload: %w: %s", err, output)
	}
	return time.Since(start), nil
}

// pacedLoad sends Encrypts on a fixed schedule. Their times count from when each was due, so that a
// stall hides nothing.
func pacedLoad(s *server) ([]time.Duration, error) {
	m, err := s.message(opEncrypt)
	if err != nil {
		return nil, err
	}
	request := s.client.Request(m.path, m.body)
	var mu sync.Mutex
	var all []time.Duration
	var failed error
	start := time.Now()
	var running sync.WaitGroup
	for i := range pacedConnections {
		c := harness.NewConn(s.address, s.demo.Roots)
		err := c.Dial()
		if err != nil {
			return nil, err
		}
		running.Go(func() {
			defer c.Close()
			var latencies []time.Duration
			var err error
			for n := i; err == nil; n += pacedConnections {
				due := time.Duration(n) * time.Second / pacedRate
				if due >= pacedTime {
					break
				}
				time.Sleep(time.Until(start.Add(due)))
				_, err = exchange(c, request)
				latencies = append(latencies, time.Since(start)-due)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, latencies...)
			if err != nil {
				failed = err
			}
		})
	}
	running.Wait()
	return all, failed
}
