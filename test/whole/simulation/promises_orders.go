package simulation

import "time"

// abandonedWithin is how long an order of which records are missing may stay, of a provider that runs.
const abandonedWithin = 30 * time.Second

// checkOrders: an order of which records are missing, and that has asked the cloud for nothing, is taken back.
func (w *world) checkOrders() {
	if !w.provider.up || w.now.Sub(w.provider.since) < abandonedWithin {
		return
	}
	records, asked := map[string]int32{}, map[string]bool{}
	for _, m := range w.machines.live.items {
		records[m.orderKey()]++
		asked[m.orderKey()] = asked[m.orderKey()] || m.asked()
	}
	for _, m := range w.machines.live.items {
		pool := w.pools.get(m.pool)
		if pool.paused {
			delete(w.ledger.short, m.orderKey())
			continue
		}
		if !m.going.IsZero() || asked[m.orderKey()] {
			continue
		}
		key := m.orderKey()
		if records[key] >= m.order.Size {
			delete(w.ledger.short, key)
			continue
		}
		if w.ledger.short[key].IsZero() || w.ledger.short[key].Before(w.provider.since) {
			w.ledger.short[key] = w.now
		}
		w.promise(w.now.Sub(w.ledger.short[key]) < abandonedWithin,
			"%s is one of %d records of an order of %d machines, and is not taken back", m.name, records[key], m.order.Size)
	}
}
