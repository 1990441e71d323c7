// This file changes valid requests byte by byte: none may be accepted that means something else
// (see meaning in reference_test.go).

package sigv4

import (
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// wire is a request as fields of bytes, in the order in which they arrive.
type wire struct {
	method, path, query, host, body []byte
	headers                         [][2][]byte
}

func toWire(r *Request) wire {
	w := wire{
		method: []byte(r.Method), path: []byte(r.Path), query: []byte(r.Query),
		host: []byte(r.Host), body: slices.Clone(r.Body),
	}
	for name, values := range r.Header {
		for _, value := range values {
			w.headers = append(w.headers, [2][]byte{[]byte(name), []byte(value)})
		}
	}
	slices.SortStableFunc(
		w.headers, func(a, b [2][]byte) int { return strings.Compare(string(a[0]), string(b[0])) },
	)
	return w
}

// request puts the headers under the names that net/http would give them.
func (w wire) request() *Request {
	r := &Request{
		Method: string(w.method), Path: string(w.path), Query: string(w.query),
		Host: string(w.host), Body: w.body, Header: http.Header{},
		ContentLength: int64(len(w.body)),
	}
	for _, header := range w.headers {
		name := http.CanonicalHeaderKey(string(header[0]))
		r.Header[name] = append(r.Header[name], string(header[1]))
	}
	return r
}

// fields are pointers to all that can be changed.
func (w *wire) fields() []*[]byte {
	fields := []*[]byte{&w.method, &w.path, &w.query, &w.host, &w.body}
	for i := range w.headers {
		fields = append(fields, &w.headers[i][0], &w.headers[i][1])
	}
	return fields
}

func (w wire) clone() wire {
	c := wire{
		method: slices.Clone(w.method), path: slices.Clone(w.path), query: slices.Clone(w.query),
		host: slices.Clone(w.host), body: slices.Clone(w.body),
	}
	for _, header := range w.headers {
		c.headers = append(c.headers, [2][]byte{slices.Clone(header[0]), slices.Clone(header[1])})
	}
	return c
}

// judge counts mutants and finds the ones wrongly accepted.
type judge struct {
	t                 *testing.T
	verifier          *Verifier
	original          meaning
	mutants, accepted int
}

func (j *judge) check(w wire, what string) {
	r := w.request()
	j.mutants++
	_, err := j.verifier.Verify(r, testNow)
	if err != nil {
		return
	}
	j.accepted++
	mutant, ok := meaningOf(r)
	if !ok || !reflect.DeepEqual(mutant, j.original) || !testReference.accepts(r, testNow) {
		j.t.Fatalf("accepted after %s: %+v", what, r)
	}
}

func mutationOriginals() []*Request {
	kms := testRequest()
	testReference.sign(kms, oldID, "us-east-1", testNow, "host", "x-amz-date")
	rich := testRequest()
	rich.Header["X-Many"] = []string{" one  two ", "three"}
	rich.Header["X-Empty"] = []string{""}
	setContentHash(rich)
	testReference.sign(
		rich, newID, "eu-central-1", testNow, ":authority", "content-type", "host",
		"x-amz-content-sha256", "x-amz-date", "x-empty", "x-many",
	)
	odd := testRequest()
	odd.Path = "/a%20b/ü:c"
	odd.Body = nil
	testReference.sign(odd, newID, "us-east-1", testNow, "host", "x-amz-date")
	return []*Request{kms, rich, odd}
}

// TestMutants covers A1 to A4: at least 100,000 mutants of valid requests.
func TestMutants(t *testing.T) {
	v := newTestVerifier(t)
	total, accepted := 0, 0
	for i, original := range mutationOriginals() {
		_, err := v.Verify(original, testNow)
		if err != nil {
			t.Fatal(err)
		}
		means, _ := meaningOf(original)
		j := &judge{t: t, verifier: v, original: means}
		w := toWire(original)
		everySubstitution(j, w)
		everyDeletionAndInsertion(j, w)
		randomEdits(j, w, rand.New(rand.NewPCG(1, uint64(i))), 30_000)
		total += j.mutants
		accepted += j.accepted
	}
	t.Logf("%d mutants, %d of them accepted, all of the same meaning", total, accepted)
	if total-accepted < 100_000 {
		t.Fatalf("only %d mutants of another meaning", total-accepted)
	}
	if accepted == 0 {
		t.Fatal("no mutant of the same meaning was accepted: the test does not tell the two apart")
	}
}

// everySubstitution puts in the place of every byte every other one of a set that holds each bit
// flip and all that has a meaning in a request.
func everySubstitution(j *judge, w wire) {
	for _, field := range w.fields() {
		for at, old := range *field {
			for _, c := range substitutes(old) {
				(*field)[at] = c
				j.check(w, "a substitution")
			}
			(*field)[at] = old
		}
	}
}

func substitutes(old byte) []byte {
	set := []byte(" \t\n\r\x00\x7f,;:=/%?&+-._~aZ09\"'\x80\xff")
	for bit := range 8 {
		set = append(set, old^1<<bit)
	}
	slices.Sort(set)
	return slices.DeleteFunc(slices.Compact(set), func(c byte) bool { return c == old })
}

func everyDeletionAndInsertion(j *judge, w wire) {
	for _, field := range w.fields() {
		old := *field
		for at := range old {
			*field = slices.Delete(slices.Clone(old), at, at+1)
			j.check(w, "a deletion")
		}
		for at := 0; at <= len(old); at++ {
			for _, c := range []byte(" \n,;/%a0\x00\xff") {
				*field = slices.Insert(slices.Clone(old), at, c)
				j.check(w, "an insertion")
			}
		}
		*field = old
	}
}

// randomEdits makes one to three larger changes each: swaps, cuts, repetitions, and whole headers
// removed, doubled, moved or merged.
func randomEdits(j *judge, w wire, random *rand.Rand, count int) {
	for range count {
		m := w.clone()
		for range 1 + random.IntN(3) {
			if len(m.headers) > 0 && random.IntN(4) == 0 {
				editHeaders(&m, random)
				continue
			}
			fields := m.fields()
			field := fields[random.IntN(len(fields))]
			if len(*field) == 0 {
				*field = []byte{byte(random.Uint32())}
				continue
			}
			from := random.IntN(len(*field))
			to := from + random.IntN(len(*field)-from) + 1
			switch random.IntN(5) {
			case 0:
				*field = slices.Delete(*field, from, to)
			case 1:
				*field = slices.Insert(*field, from, slices.Clone((*field)[from:to])...)
			case 2:
				(*field)[from], (*field)[to-1] = (*field)[to-1], (*field)[from]
			case 3:
				*field = []byte(strings.ToUpper(string(*field)))
			case 4:
				other := fields[random.IntN(len(fields))]
				*field, *other = *other, *field
			}
		}
		j.check(m, "random edits")
	}
}

func editHeaders(m *wire, random *rand.Rand) {
	at := random.IntN(len(m.headers))
	switch random.IntN(4) {
	case 0:
		m.headers = slices.Delete(m.headers, at, at+1)
	case 1:
		m.headers = append(m.headers, m.headers[at])
	case 2:
		m.headers = append(slices.Delete(slices.Clone(m.headers), at, at+1), m.headers[at])
	case 3: // what two headers of one name mean, in one
		for other := range m.headers {
			if other != at && string(m.headers[other][0]) == string(m.headers[at][0]) {
				merged := string(m.headers[min(at, other)][1]) + "," + string(
					m.headers[max(at, other)][1],
				)
				m.headers[min(at, other)][1] = []byte(merged)
				m.headers = slices.Delete(m.headers, max(at, other), max(at, other)+1)
				return
			}
		}
	}
}
