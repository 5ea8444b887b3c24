// Optimizing takes no memory once it has begun: neither from the system nor, but
// for gradients, from the pool. Float twin.

#include <doctest/doctest.h>

#include "core/pool.h"
#include "optim/adam.h"
#include "optim/clip.h"
#include "optim/ema.h"
#include "optim/schedule.h"
#include "optim/sgd.h"
#include "tests/optim/rig.h"
#include "tests/support/news.h"

namespace whittle {

TEST_SUITE("allocation") {
  TEST_CASE("a step, clipping and averaging allocate nothing after the first time") {
    Rig rig({{"large", {7, 10007}}, {"small", {5}}});
    optim::Sgd sgd(rig.named, {.rate = 0.1, .momentum = 0.9});
    optim::Adam adam(rig.named, {.rate = 0.001});
    optim::Ema ema(rig.named);
    const optim::Schedule schedule({.epochs = 100}, optim::Cosine{}, {.epochs = 5});
    uint64_t system = 0, requests = 0, before = 0;
    for (int i = 0; i < 10; ++i) {
      if (i == 1) {  // warm
        system = pool_stats().system_allocations;
        requests = pool_stats().requests;
        before = news();
      }
      if (i == 0) {
        rig.set_gradients(0);
      }
      sgd.rate = schedule.rate_at(sgd.steps());
      optim::clip_gradient_norm(rig.named, 0.5);
      optim::clip_gradient_values(rig.named, 0.1);
      optim::first_non_finite_gradient(rig.named);
      sgd.step();
      adam.step();
      ema.update();
      const optim::EmaScope averaged(ema);
    }
    CHECK(pool_stats().system_allocations == system);
    CHECK(pool_stats().requests - requests <= 9 * 2);  // the partial sums of the norm
    CHECK(news() == before);
  }
}

}  // namespace whittle
