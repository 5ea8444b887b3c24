#include "core/variable.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <unordered_set>

#include "core/error.h"

namespace whittle::inline WHITTLE_PRECISION {

namespace {

thread_local bool grad_on = true;

NodePtr make_node(const char* op, const Shape& shape) {
  static std::atomic<uint64_t> created{0};
  return std::allocate_shared<Node>(PoolAllocator<Node>(), op, created.fetch_add(1, std::memory_order_relaxed), shape);
}

}  // namespace

// The default destructor would recurse once per node of a chain and overflow
// the stack. Instead, whoever holds the last reference to a node takes over its
// inputs before it dies.
Node::~Node() {
  if (inputs.empty()) {
    return;
  }
  std::vector<NodePtr, PoolAllocator<NodePtr>> dying = std::move(inputs);
  while (!dying.empty()) {
    const NodePtr node = std::move(dying.back());
    dying.pop_back();
    if (node != nullptr && node.use_count() == 1) {
      std::ranges::move(node->inputs, std::back_inserter(dying));
      node->inputs.clear();
    }
  }
}

Variable Variable::leaf(Tensor value) {
  require(value.defined(), "leaf", "the value is undefined");
  Variable v(std::move(value));
  v.node_ = make_node(Node::kLeaf, v.shape());
  return v;
}

const Tensor& Variable::grad() const {
  require(node_ != nullptr && node_->is_leaf(), "grad", "only leaves keep a gradient; this Variable is ",
          node_ == nullptr ? "a constant" : "the result of an op");
  return node_->grad;
}

void Variable::zero_grad() {
  if (node_ != nullptr) {
    node_->grad = Tensor();
  }
}

void Variable::set_grad(Tensor grad) {
  require(node_ != nullptr && node_->is_leaf(), "set_grad", "only leaves keep a gradient");
  require(!grad.defined() || grad.shape() == shape(), "set_grad", "gradient has shape ", grad.shape(), ", value has ",
          shape());
  node_->grad = std::move(grad);
}

real* Variable::mutable_data() {
  require(node_ != nullptr && node_->is_leaf(), "mutable_data", "only a leaf's value may be written in place");
  return value_.mutable_data();
}

void Variable::assign(const Tensor& value) {
  require(value.defined() && value.shape() == shape(), "assign", "value has shape ", value.shape(), ", expected ",
          shape());
  std::ranges::copy(value.values(), mutable_data());
}

Variable Variable::on(GridsPtr grids) const {
  require(defined(), "on", "the value is undefined");
  require(grids == nullptr || (!grids->empty() && value_.elements() % static_cast<int64_t>(grids->size()) == 0), "on",
          "a value of shape ", shape(), " does not divide into ", grids == nullptr ? 0 : grids->size(), " runs");
  Variable result = *this;
  result.grids_ = std::move(grids);
  return result;
}

Variable make_op(const char* op, Tensor out, std::span<const Variable> inputs, Backward backward) {
  Variable result(std::move(out));
  const bool wanted = grad_on && std::ranges::any_of(inputs, [](const Variable& v) { return v.requires_grad(); });
  if (wanted) {
    result.node_ = make_node(op, result.shape());
    result.node_->backward = std::move(backward);
    result.node_->inputs.reserve(inputs.size());
    for (const Variable& input : inputs) {
      result.node_->inputs.push_back(input.node_);
    }
  }
  return result;
}

Variable make_op(const char* op, Tensor out, std::initializer_list<Variable> inputs, Backward backward) {
  return make_op(op, std::move(out), std::span(inputs.begin(), inputs.size()), std::move(backward));
}

void require_defined(const char* op, const Variable& x) { require(x.defined(), op, "an input is undefined"); }

namespace {

// A node on its way through backward(), and the gradient collected for it so far.
struct Visit {
  NodePtr node;
  Tensor grad;
};
using Visits = std::vector<Visit, PoolAllocator<Visit>>;

// All nodes the loss depends on, newest first. A node is always newer than its
// inputs, so in this order a node's gradient is complete when its turn comes.
Visits reachable_newest_first(const NodePtr& loss) {
  Visits visits;
  std::unordered_set<const Node*, std::hash<const Node*>, std::equal_to<>, PoolAllocator<const Node*>> seen;
  visits.push_back({loss, {}});
  seen.insert(loss.get());
  for (size_t next = 0; next < visits.size(); ++next) {
    const Node* node = visits[next].node.get();
    require(node->is_leaf() || node->backward, "backward", "the graph of op '", node->op,
            "' was already released by an earlier backward()");
    for (const NodePtr& input : node->inputs) {
      if (input != nullptr && seen.insert(input.get()).second) {
        visits.push_back({input, {}});
      }
    }
  }
  std::ranges::sort(visits, [](const Visit& a, const Visit& b) { return a.node->seq > b.node->seq; });
  return visits;
}

// total += more. The first gradient is kept by reference: it may be shared with
// another input of the same op, so it is copied before it is added to.
void accumulate(Tensor& total, Tensor more) {
  if (!total.defined()) {
    total = std::move(more);
  } else {
    if (!total.is_unique()) {
      total = total.clone();
    }
    add_in_place(total, more);
  }
}

}  // namespace

void backward(const Variable& loss) {
  require(loss.defined(), "backward", "the loss is undefined");
  require(loss.value().elements() == 1, "backward", "the loss must have one element, it has shape ", loss.shape());
  require(loss.requires_grad(), "backward", "the loss depends on no Variable that wants a gradient");

  Visits visits = reachable_newest_first(loss.node());
  // Position of a node in `visits`, found by its creation order.
  const auto visit_of = [&visits](const NodePtr& node) {
    return std::ranges::lower_bound(visits, node->seq, std::greater<>(), [](const Visit& v) { return v.node->seq; });
  };

  visits.front().grad = Tensor::full(loss.shape(), 1);
  for (Visit& visit : visits) {
    Node& node = *visit.node;
    if (node.is_leaf()) {
      continue;
    }
    // Moved out, so that closure and gradient are released as soon as both are used.
    const Backward step = std::move(node.backward);
    const Tensor grad = std::move(visit.grad);
    if (!grad.defined()) {
      continue;  // every path from the loss to here ended in "no gradient"
    }
    Gradients gradients = step(grad);
    require(gradients.size() == node.inputs.size(), "backward", "op '", node.op, "' returned ", gradients.size(),
            " gradients for ", node.inputs.size(), " inputs");
    for (size_t i = 0; i < gradients.size(); ++i) {
      if (node.inputs[i] == nullptr || !gradients[i].defined()) {
        continue;
      }
      require(gradients[i].shape() == node.inputs[i]->shape, "backward", "op '", node.op,
              "' returned a gradient of shape ", gradients[i].shape(), " for input ", i, " of shape ",
              node.inputs[i]->shape);
      accumulate(visit_of(node.inputs[i])->grad, std::move(gradients[i]));
    }
  }

  // Totals first, then the handover, which cannot fail: all leaves change or none.
  std::erase_if(visits, [](const Visit& v) { return !v.node->is_leaf() || !v.grad.defined(); });
  for (Visit& visit : visits) {
    if (visit.node->grad.defined()) {
      accumulate(visit.grad, visit.node->grad);
    } else if (!visit.grad.is_unique()) {
      visit.grad = visit.grad.clone();  // a leaf owns its gradient: clipping may write into it
    }
  }
  for (Visit& visit : visits) {
    visit.node->grad = std::move(visit.grad);
  }
}

NoGrad::NoGrad() : previous_(grad_on) { grad_on = false; }
NoGrad::~NoGrad() { grad_on = previous_; }
bool grad_enabled() { return grad_on; }

}  // namespace whittle::inline WHITTLE_PRECISION
