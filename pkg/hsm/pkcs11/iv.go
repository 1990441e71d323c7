package pkcs11

// IVs that are made outside of the encryption: from the proxy's CSPRNG or from
// the HSM's, many at a time.

// ivBatchCount IVs are fetched at once: one system call, or one round trip to the
// HSM, for so many encryptions.
const ivBatchCount = 128

// ivBatch hands out random IVs, each once. It belongs to one session, hence to
// one goroutine at a time.
type ivBatch struct {
	buffer []byte
	unused []byte
}

// next gives the next IV of size bytes, valid until the next call. When none is
// left it lets fill overwrite a buffer with random bytes. An error of fill leaves
// no IV behind that could be handed out.
func (b *ivBatch) next(size int, fill func([]byte) error) ([]byte, error) {
	if len(b.unused) < size {
		if len(b.buffer) != size*ivBatchCount {
			b.buffer = make([]byte, size*ivBatchCount)
		}
		b.unused = nil
		err := fill(b.buffer)
		if err != nil {
			return nil, err
		}
		b.unused = b.buffer
	}
	iv := b.unused[:size:size]
	b.unused = b.unused[size:]
	return iv, nil
}
