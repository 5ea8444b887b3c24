// whittle predict: what a saved model says about pictures or rows of one's own.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <memory>
#include <numeric>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "apps/cli.h"
#include "apps/data_options.h"
#include "apps/program.h"
#include "apps/text.h"
#include "core/checkpoint.h"
#include "core/error.h"
#include "core/json.h"
#include "core/parallel.h"
#include "datasets/own.h"

namespace whittle::apps {

namespace {

struct Options {
  std::string model;
  std::vector<std::string> inputs;
  int64_t top = 1;
  std::string save_codes;
  int threads = 0;
  bool json = false;
};

// exp(y) as shares of their sum.
std::vector<double> probabilities(std::span<const real> outputs) {
  const double most = *std::ranges::max_element(outputs);
  std::vector<double> shares;
  for (const real y : outputs) {
    shares.push_back(std::exp(static_cast<double>(y) - most));
  }
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (double& share : shares) {
    share /= sum;
  }
  return shares;
}

// The answer for one sample, in words and as JSON.
struct Answer {
  std::string text;
  Json json;
};

Answer answer_of(std::span<const real> outputs, const data::Preprocessing& network, int64_t top) {
  std::ostringstream text;
  if (network.classes.empty()) {
    const double value = static_cast<double>(outputs[0]) * network.target_spread + network.target_centre;
    text << value;
    return {text.str(), {{"value", value}}};
  }
  require(outputs.size() == network.classes.size(), "predict", "the model has ", outputs.size(), " outputs for ",
          network.classes.size(), " classes");
  const std::vector<double> shares = probabilities(outputs);
  std::vector<size_t> order(shares.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return shares[a] > shares[b]; });
  order.resize(std::min(order.size(), static_cast<size_t>(top)));
  Json list = Json::array();
  for (const size_t label : order) {
    text << (list.empty() ? "" : ", ") << in_list(network.classes[label]) << ' ' << std::fixed << std::setprecision(1)
         << 100 * shares[label] << " %";
    list.push_back({{"class", network.classes[label]}, {"probability", shares[label]}});
  }
  return {text.str(), {{"class", network.classes[order[0]]}, {"classes", list}}};
}

void predict(const Options& options) {
  require(options.top >= 1, "predict", "--top ", options.top, " is not at least 1");
  set_num_threads(options.threads);
  const SavedModel saved(options.model);
  const data::Preprocessing network = preprocessing_of("predict", options.model, saved.checkpoint);
  require(options.top == 1 || !network.classes.empty(), "predict", "--top is for classes; ", options.model,
          " predicts a number");
  const std::vector<std::filesystem::path> files(options.inputs.begin(), options.inputs.end());
  const data::Dataset data = data::read_inputs(files, network);

  require(options.save_codes.empty() || saved.program.has_value(), "predict", "--save-codes is for programs, ",
          options.model, " is a checkpoint");
  RunBytes codes;
  Json answers = Json::array();
  for (int64_t i = 0; i < data.size(); ++i) {
    const std::vector<int64_t> one{i};
    const Tensor outputs = saved.run(data.batch(one).inputs, options.save_codes.empty() ? nullptr : &codes);
    Answer answer = answer_of(outputs.values(), network, options.top);
    const std::string& file = options.inputs[data.is_images() ? static_cast<size_t>(i) : 0];
    std::cout << printable(file) << (data.is_images() ? "" : " row " + std::to_string(i + 1)) << ": " << answer.text
              << '\n';
    answer.json["file"] = file;
    if (!data.is_images()) {
      answer.json["row"] = i + 1;
    }
    answers.push_back(std::move(answer.json));
  }
  if (!options.save_codes.empty()) {
    codes.save(options.save_codes);
  }
  if (options.json) {
    std::cout << json_line({{"model", options.model}, {"answers", std::move(answers)}}) << '\n';
  }
}

}  // namespace

void add_predict(CLI::App& program) {
  CLI::App* verb = program.add_subcommand("predict", "Say what a saved model makes of pictures or rows of your own");
  const auto options = std::make_shared<Options>();
  verb->add_option("MODEL", options->model, "A checkpoint, or a program (.wtl)")->required();
  verb->add_option("FILE", options->inputs, "Pictures, or one CSV file that names the columns of the training")
      ->required();
  verb->add_option("--top", options->top, "So many of the likeliest classes")->capture_default_str();
  verb->add_option("--save-codes", options->save_codes,
                   "Of a program: write each sample's input bytes to NAME.in and its output bytes to NAME.out");
  verb->add_option("--threads", options->threads, "Threads that compute; 0: all there are")->capture_default_str();
  verb->add_flag("--json", options->json, "The last line is a JSON object with the answers");
  verb->callback([options] { predict(*options); });
  set_example(*verb,
              "whittle predict photos.wtl cat.jpg dog.png --top 3\n"
              "  whittle predict flowers.safetensors new.csv");
}

}  // namespace whittle::apps
