package pkcs11

// Random bytes of the HSM for IVs, fetched many at a time.

// ivBatchCount IVs are fetched at once: one round trip to the HSM for so many encryptions.
const ivBatchCount = 128

// ivBatch hands out random bytes, each once. They are never an IV by themselves: a copy of
// this memory (a snapshot of a virtual machine) hands them out again. It belongs to one session, hence to
// one goroutine at a time.
type ivBatch struct {
	buffer []byte
	unused []byte
}

// next gives the next size bytes, valid until the next call. When none are
// left it lets fill overwrite a buffer with random bytes. An error of fill leaves
// none behind that could be handed out.
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
