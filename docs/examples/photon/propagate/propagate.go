package main

import (
	"sort"
	"sync"
)

// bunchSize is how many photons one thread takes at a time.
const bunchSize = 1 << 12

// Summary counts what happened to the photons of a job.
type Summary struct {
	Steps, Photons, Absorbed, Escaped, Hits, Scatters int64
}

// propagate follows all photons of the steps, which are numbered, and returns
// their hits in the order of photon numbers. The result does not depend on
// threads.
func propagate(seed uint64, steps []Step, light *spectrum, ice *medium, sensors *array, threads int) ([]Hit, Summary) {
	var total uint64
	if n := len(steps); n > 0 {
		total = steps[n-1].First + steps[n-1].Count
	}
	type share struct {
		hits    []Hit
		summary Summary
	}
	shares := make([]share, max(threads, 1))
	var group sync.WaitGroup
	for t := range shares {
		group.Go(func() {
			own := &shares[t]
			b := newBunch(bunchSize)
			for first := uint64(t) * bunchSize; first < total; first += uint64(len(shares)) * bunchSize {
				last := min(first+bunchSize, total)
				step := sort.Search(len(steps), func(i int) bool { return steps[i].First+steps[i].Count > first })
				for id := first; id < last; id++ {
					for id >= steps[step].First+steps[step].Count {
						step++
					}
					i := int(id - first)
					birth(seed, id, &steps[step], light, ice, b, i)
					hit, how := walk(seed, ice, sensors, b, i)
					switch how {
					case endAbsorbed:
						own.summary.Absorbed++
					case endEscaped:
						own.summary.Escaped++
					case endHit:
						hit.Event = steps[step].Event
						own.hits = append(own.hits, hit)
						own.summary.Hits++
						own.summary.Scatters += int64(hit.Scatter)
					}
				}
			}
		})
	}
	group.Wait()
	sum := Summary{Steps: int64(len(steps)), Photons: int64(total)}
	var hits []Hit
	for _, own := range shares {
		hits = append(hits, own.hits...)
		sum.Absorbed += own.summary.Absorbed
		sum.Escaped += own.summary.Escaped
		sum.Hits += own.summary.Hits
		sum.Scatters += own.summary.Scatters
	}
	sort.Slice(hits, func(i, j int) bool { return hits[i].Photon < hits[j].Photon })
	return hits, sum
}
