package rendezvous

import "hash/fnv"

// Rank is the weight of one candidate for a key. It allocates nothing that outlives it.
func Rank(key, candidate string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(key))
	h.Write([]byte{0})
	h.Write([]byte(candidate))
	// FNV's last bytes hardly reach its high bits; this is the end of MurmurHash3.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
