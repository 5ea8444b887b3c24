// What a command writes is none of what it reads: nobody loses a model, a table or a store to a slip of the tab key.
#pragma once

#include "apps/cli.h"

namespace whittle::apps {

// Of a verb that was parsed, and those it stands under: throws Error if an option that names a file to write names one
// that another option or argument names, too, or a file that exists and is of another kind than what would take its
// place. Nothing has been read or written yet.
void check_outputs(const CLI::App& verb);

}  // namespace whittle::apps
